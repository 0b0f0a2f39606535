// A registry in a section of its own, walked from __start_ to __stop_; and a section of code with the same symbols.
#include "../program.h"
#include <stdio.h>
typedef struct { const char *name; int (*run)(int); } entry;
#define REGISTER(n, e) static int run_##n(int x) { return e; } __attribute__((section("registry"), used, aligned(16))) static const entry entry_##n = {#n, run_##n};
REGISTER(negate, -x)
REGISTER(square, x * x)
REGISTER(half, x / 2)
extern const entry __start_registry[], __stop_registry[];
#define SPECIAL __attribute__((section("special_code"), noinline, used))
SPECIAL int special_one(int x) { return x < 3 ? x + 1 : x - 1; }
SPECIAL int special_two(int x) { return special_one(x) * 2; }
extern char __start_special_code[], __stop_special_code[];
NOINLINE int elsewhere(int x) { return x; }
NOINLINE int is_special(void *p) { return (char *)p >= __start_special_code && (char *)p < __stop_special_code; }
PROGRAM {
    for (const entry *e = __start_registry; e < __stop_registry; e++) printf("%s %d\n", e->name, e->run(9));
    printf("%d %d %d\n", is_special(special_one), is_special(special_two), is_special(elsewhere));
    printf("%d %d\n", special_two(1), special_two(7));
    return 0;
}
