// Control-flow enforcement: every indirect target begins with endbr64, also after moving; notrack jumps.
//@ flags: -fcf-protection=full
#include "../program.h"
#include <setjmp.h>
#include <stdio.h>
#include <string.h>
typedef int (*function)(int);
NOINLINE int plus(int x) { return x + 1; }
NOINLINE int minus(int x) { return x - 1; }
static function volatile table[] = {plus, minus};
NOINLINE int begins_with_endbr(function f) { static const unsigned char endbr[] = {0xf3, 0x0f, 0x1e, 0xfa}; return memcmp((void *)f, endbr, 4) == 0; }
NOINLINE int jump(unsigned n) { switch (n) { case 0: puts("a"); return 1; case 1: return 3; case 2: puts("c"); return 5; case 3: return 7; case 4: puts("e"); return 11; case 5: return 13; default: return 0; } }
NOINLINE int go(int n) {
    static void *const labels[] = {&&a, &&b, &&c};
    goto *labels[n % 3];
a: puts("label a"); return 1;
b: return 2;
c: puts("label c"); return 3;
}
static jmp_buf buffer;
PROGRAM {
    for (int i = 0; i < 2; i++) printf("%d %d\n", begins_with_endbr(table[i]), table[i](10));
    for (unsigned i = 0; i < 7; i++) printf("%d %d\n", jump(i), go((int)i));
    if (setjmp(buffer) == 0) longjmp(buffer, 1);
    return 0;
}
