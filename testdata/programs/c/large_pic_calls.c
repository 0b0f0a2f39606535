// PLTOFF64: calls by a distance from the GOT, to a function itself or, where it may be replaced, to its entry in the PLT.
//@ build: kinds=pie,so,static compilers=gcc linkers=ld,lld,gold
//@ flags: -mcmodel=large -fPIC
#include "../program.h"
#include <stdio.h>
int counter = 3;
NOINLINE int half(int x) { return x / 2 + counter; }
NOINLINE int twice(int x) { return x > 3 ? half(x) * 2 : x * 2; }
static NOINLINE int own(int x) { return twice(x) - half(x); }
PROGRAM {
    for (int i = 0; i < 7; i++) printf("%d %d %d\n", half(i), twice(i), own(i));
    return 0;
}
