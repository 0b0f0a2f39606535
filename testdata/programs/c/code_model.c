// Large and medium code models: 64-bit immediates, GOTOFF64, calls through registers, wide jump tables.
//@ build: tag=large kinds=exec,static
//@ flags: -mcmodel=large
//@ build: tag=large-pic kinds=pie,so compilers=gcc,clang linkers=ld,lld,gold
//@ flags: -mcmodel=large
//@ build: tag=medium kinds=exec,pie,so
//@ flags: -mcmodel=medium
#include "../program.h"
#include <stdio.h>
static int large_data[20000];
int counter = 3;
static int apply(int (*f)(int), int x) { return f(x); }
NOINLINE int triple(int x) { return x * 3 + counter; }
NOINLINE int choose(unsigned n) {
    switch (n) { case 0: puts("zero"); return 4; case 1: return counter; case 2: puts("two"); return 9; case 3: return triple(n); case 4: puts("four"); return 1; case 5: return 77; default: return -1; }
}
static int (*volatile pointer)(int) = triple;
PROGRAM {
    for (unsigned i = 0; i < 7; i++) { large_data[i * 1000] = choose(i); printf("%d\n", apply(pointer, large_data[i * 1000])); }
    return 0;
}
