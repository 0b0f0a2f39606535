// Packed relative relocations (RELR): pointers to functions, labels and data without addends in a table.
//@ build: kinds=pie,so,static-pie linkers=ld,lld
//@ flags: -Wl,-z,pack-relative-relocs
//@ build: tag=mold kinds=static-pie linkers=mold
//@ flags: -Wl,--pack-dyn-relocs=relr
#include "../program.h"
#include <stdio.h>
static int f0(int x) { return x; }
static int f1(int x) { return x + 1; }
static int f2(int x) { return x * 2; }
static const char *const names[] = {"zero", "one", "two", "three"};
static int (*const functions[])(int) = {f0, f1, f2, f1, f0, f2, f0, f1, f2, f1, f0, f2, f0, f1, f2, f1, f0, f2, f0, f1, f2, f1, f0, f2, f0, f1, f2, f1, f0, f2, f0, f1, f2, f1, f0, f2, f0, f1, f2, f1, f0, f2, f0, f1, f2, f1, f0, f2, f0, f1, f2, f1, f0, f2, f0, f1, f2, f1, f0, f2, f0, f1, f2, f1, f0, f2, f0, f1, f2};
static struct { char c; int (*f)(int); const char *s; } mixed[] = {{'a', f1, "alpha"}, {'b', f2, "beta"}};
NOINLINE int go(int n) {
    static void *const labels[] = {&&a, &&b, &&c, &&d};
    goto *labels[n & 3];
a: puts("a"); return 1;
b: return 2;
c: puts("c"); return 3;
d: return 4;
}
PROGRAM {
    int sum = 0;
    for (unsigned i = 0; i < sizeof functions / sizeof *functions; i++) sum = sum * 3 + functions[i]((int)i);
    printf("%d\n", sum);
    for (int i = 0; i < 4; i++) printf("%s %d %s %d\n", names[i], go(i), mixed[i & 1].s, mixed[i & 1].f(i));
    return 0;
}
