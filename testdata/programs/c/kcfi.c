// Type hashes before the entry of each function, checked by every indirect call: prefix data moves with its function.
//@ stays: type hashes stand in front of entries; where there are few others, nothing moves
//@ build: compilers=clang
//@ flags: -fsanitize=kcfi
#include "../program.h"
#include <stdio.h>
typedef int (*function)(int);
static int plus(int x) { return x + 1; }
static int times(int x) { return x * 3; }
static long other(long a, long b) { return a - b; }
static function volatile table[] = {plus, times};
static long (*volatile wide)(long, long) = other;
PROGRAM { for (int i = 0; i < 6; i++) printf("%d %ld\n", table[i & 1](i), wide(i, 2)); return 0; }
