// One section per function, unused ones collected by the linker; relocations against section symbols.
//@ build: tag=gc linkers=ld,lld,mold
//@ flags: -ffunction-sections -fdata-sections -Wl,--gc-sections
//@ build: tag=os linkers=ld,lld,mold
//@ flags: -Os -ffunction-sections -Wl,--gc-sections
#include "../program.h"
#include <stdio.h>
static int a(int x) { return x + 1; }
static int b(int x) { return x * 2; }
static int c(int x) { return x - 3; }
int never_called(int x) { return a(x) + 17; }
static int (*const table[])(int) = {a, b, c};
static int (*const unused_table[])(int) = {never_called};
NOINLINE int run(int n, int x) { return n == 7 ? unused_table[0](x) : table[n % 3](x); }
NOINLINE int choose(unsigned n) { switch (n) { case 0: puts("a"); return 1; case 1: return 3; case 2: puts("c"); return 5; case 3: return 7; case 4: puts("e"); return 11; case 5: return 13; default: return 0; } }
PROGRAM { for (int i = 0; i < 7; i++) printf("%d %d\n", run(i, 10), choose((unsigned)i)); return 0; }
