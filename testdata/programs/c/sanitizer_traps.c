// Undefined-behaviour traps: many ud1/ud2 at the ends of functions, none of which runs.
//@ flags: -fsanitize=signed-integer-overflow,shift,bounds
//@ gcc: -fsanitize-undefined-trap-on-error
//@ clang: -fsanitize-trap=all
#include "../program.h"
#include <stdio.h>
NOINLINE int mix(int a, int b) { int t[8] = {1, 2, 3, 4, 5, 6, 7, 8}; return (a + b) * t[b & 7] - (a << (b & 3)); }
NOINLINE int average(const int *p, int n) { int s = 0; for (int i = 0; i < n; i++) s += p[i]; return n ? s / n : 0; }
PROGRAM { int d[5] = {9, 8, 7, 6, 5}; for (int i = 0; i < 6; i++) printf("%d %d\n", mix(i, 7 - i), average(d, i < 5 ? i : 5)); return 0; }
