// Code without any unwind information beside the C library's.
//@ flags: -fno-asynchronous-unwind-tables -fno-unwind-tables -fno-exceptions
#include "../program.h"
#include <stdio.h>
NOINLINE int leaf(int x) { return x % 7; }
NOINLINE int walk(int n) { int s = 0; for (int i = 0; i < n; i++) s += leaf(i) > 3 ? walk(n / 2) : i; return s; }
NOINLINE int choose(unsigned n) { switch (n) { case 0: puts("a"); return 1; case 1: return 3; case 2: puts("c"); return 5; case 3: return 7; case 4: puts("e"); return 11; case 5: return 13; default: return 0; } }
PROGRAM { printf("%d\n", walk(20)); for (unsigned i = 0; i < 7; i++) printf("%d\n", choose(i)); return 0; }
