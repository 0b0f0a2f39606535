// IFUNC: called directly, through a pointer in data, and compared.
//@ build: compilers=gcc,clang kinds=exec,pie,so,static,static-pie linkers=ld,lld,gold,mold
#include "../program.h"
#include <stdio.h>
static int plain(int x) { return x + 2; }
static int clever(int x) { return x * 2; }
static int selector = 1;
static int (*resolve(void))(int) { return selector ? clever : plain; }
static int (*resolve_plain(void))(int) { return plain; }
__attribute__((ifunc("resolve"))) int chosen(int x);
__attribute__((ifunc("resolve_plain"))) static int local_chosen(int x);
int (*in_data)(int) = chosen;
static int (*const table[])(int) = {chosen, local_chosen, plain};
NOINLINE int through(int (*f)(int), int x) { OPAQUE(f); return f(x); }
PROGRAM {
    printf("%d %d\n", chosen(3), local_chosen(3));
    printf("%d %d\n", in_data(4), through(chosen, 5));
    for (int i = 0; i < 3; i++) printf("%d\n", through(table[i], 10));
    printf("%d %d\n", in_data == chosen, table[0] == in_data);
    return 0;
}
