// Function pointers compared: equal bodies must stay different functions, one function must have one address.
#include "../program.h"
#include <stdio.h>
typedef int (*function)(int);
NOINLINE static int first(int x) { return x * 3 + 1; }
NOINLINE static int second(int x) { return x * 3 + 1; }
NOINLINE int third(int x) { return x * 3 + 1; }
static function volatile registered = second;
static function table[] = {first, second, third, first};
NOINLINE function choose(int n) { return n == 0 ? first : n == 1 ? second : third; }
NOINLINE int index_of(function f) {
    if (f == first) return 0;
    if (f == second) return 1;
    if (f == third) return 2;
    return -1;
}
PROGRAM {
    printf("%d %d %d\n", registered == first, registered == second, registered == third);
    for (int i = 0; i < 4; i++) printf("%d %d\n", index_of(table[i]), table[i](i));
    for (int i = 0; i < 3; i++) printf("%d\n", choose(i) == table[i]);
    return 0;
}
