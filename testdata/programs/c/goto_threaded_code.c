// Direct threaded code: a first call exports the labels, the program on the heap holds code addresses.
//@ stays: labels are values in one function, and there are few others
#include "../program.h"
#include <stdio.h>
#include <stdlib.h>
static void **exported;
NOINLINE long execute(void **pc) {
    static void *labels[] = {&&lit, &&add, &&mul, &&emit, &&branch, &&halt};
    if (!pc) { exported = labels; return 0; }
    long stack[16], *sp = stack;
    goto **pc++;
lit: *sp++ = (long)*pc++; goto **pc++;
add: sp--; sp[-1] += *sp; goto **pc++;
mul: sp--; sp[-1] *= *sp; goto **pc++;
emit: printf("%ld\n", sp[-1]); goto **pc++;
branch: if (sp[-1] < 500) pc += (long)*pc; else pc++; goto **pc++;
halt: return sp[-1];
}
PROGRAM {
    execute(0);
    void **code = malloc(16 * sizeof *code);
    int n = 0;
    code[n++] = exported[0]; code[n++] = (void *)3L;
    code[n++] = exported[0]; code[n++] = (void *)7L;
    code[n++] = exported[2]; code[n++] = exported[3];
    code[n++] = exported[0]; code[n++] = (void *)1L; code[n++] = exported[1];
    code[n++] = exported[4]; code[n++] = (void *)-8L;
    code[n++] = exported[5];
    printf("%ld\n", execute(code));
    free(code);
    return 0;
}
