// Indirect branches through thunks: calls, tail calls, switches, PLT.
//@ flags: -O2
//@ gcc: -mindirect-branch=thunk -mfunction-return=keep
//@ clang: -mretpoline
#include "../program.h"
#include <stdio.h>
typedef int (*function)(int);
NOINLINE int plus(int x) { return x + 1; }
NOINLINE int minus(int x) { return x - 1; }
static function volatile table[] = {plus, minus};
NOINLINE int tail(function f, int x) { return f(x * 2); }
NOINLINE int choose(unsigned n) { switch (n) { case 0: puts("a"); return 1; case 1: return 3; case 2: puts("c"); return 5; case 3: return 7; case 4: puts("e"); return 11; case 5: return 13; default: return 0; } }
NOINLINE int go(int n) {
    static void *const labels[] = {&&a, &&b, &&c};
    goto *labels[n % 3];
a: puts("label a"); return 1;
b: return 2;
c: puts("label c"); return 3;
}
PROGRAM {
    for (int i = 0; i < 6; i++) printf("%d %d %d %d\n", table[i & 1](i), tail(table[i & 1], i), choose(i), go(i));
    return 0;
}
