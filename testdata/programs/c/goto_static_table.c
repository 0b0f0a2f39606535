// Computed goto through a static table of label addresses.
//@ profile: instrumented
#include "../program.h"
#include <stdio.h>
NOINLINE int execute(const unsigned char *pc) {
    static void *const table[] = {&&op_halt, &&op_inc, &&op_double, &&op_square, &&op_print, &&op_back};
    int acc = 1, loops = 3;
    goto *table[*pc++];
op_inc: acc++; goto *table[*pc++];
op_double: acc *= 2; goto *table[*pc++];
op_square: acc *= acc; goto *table[*pc++];
op_print: printf("%d\n", acc); goto *table[*pc++];
op_back: if (--loops) pc -= 4; goto *table[*pc++];
op_halt: return acc;
}
PROGRAM {
    static const unsigned char code[] = {1, 2, 4, 1, 2, 4, 5, 3, 4, 0};
    printf("%d\n", execute(code));
    return 0;
}
