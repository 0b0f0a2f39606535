// Label differences: the assembler resolves them, no relocation remains. Moving a block silently breaks the table.
#include "../program.h"
#include <stdio.h>
NOINLINE int execute(const unsigned char *pc) {
    static const int table[] = {&&op_halt - &&base, &&op_inc - &&base, &&op_double - &&base, &&op_print - &&base, &&op_neg - &&base};
    int acc = 1;
base:
    goto *(&&base + table[*pc++]);
op_inc: acc += 5; if (acc > 1000) puts("big"); goto *(&&base + table[*pc++]);
op_double: acc *= 2; goto *(&&base + table[*pc++]);
op_print: printf("%d\n", acc); goto *(&&base + table[*pc++]);
op_neg: acc = -acc; goto *(&&base + table[*pc++]);
op_halt: return acc;
}
PROGRAM {
    static const unsigned char code[] = {1, 2, 3, 1, 2, 2, 2, 2, 2, 2, 2, 2, 1, 3, 4, 3, 0};
    printf("%d\n", execute(code));
    return 0;
}
