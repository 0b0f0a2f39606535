// Functions that ask for alignment, with tags in the low bits of their pointers.
#include "../program.h"
#include <stdint.h>
#include <stdio.h>
#define ALIGNED __attribute__((aligned(16))) NOINLINE
ALIGNED int f0(int x) { return x + 1; }
ALIGNED int f1(int x) { return x ^ 3; }
ALIGNED int f2(int x) { return x * 5; }
__attribute__((aligned(64))) NOINLINE int f3(int x) { return x - 9; }
typedef int (*function)(int);
NOINLINE int call(uintptr_t tagged) { function f = (function)(tagged & ~(uintptr_t)15); return f((int)(tagged & 15)); }
PROGRAM {
    uintptr_t functions[] = {(uintptr_t)f0, (uintptr_t)f1, (uintptr_t)f2, (uintptr_t)f3};
    for (int i = 0; i < 4; i++) { OPAQUE(functions[i]); printf("%d\n", call(functions[i] | (uintptr_t)(i + 2))); }
    printf("%d\n", (int)(functions[3] & 63));
    return 0;
}
