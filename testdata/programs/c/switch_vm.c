// An interpreter: a switch inside a loop, the jump duplicated by the compiler.
//@ profile: instrumented
//@ gdb: print_value
#include "../program.h"
#include <stdio.h>
enum { PUSH, ADD, MUL, SUB, DUP, SWAP, JNZ, PRINT, POP, HALT };
NOINLINE void print_value(long v) { printf("%ld\n", v); }
NOINLINE long execute(const int *code) {
    long stack[32], *sp = stack;
    long steps = 0;
    for (const int *pc = code;; steps++) {
        switch (*pc++) {
        case PUSH: *sp++ = *pc++; break;
        case ADD: sp--; sp[-1] += *sp; break;
        case MUL: sp--; sp[-1] *= *sp; break;
        case SUB: sp--; sp[-1] -= *sp; break;
        case DUP: *sp = sp[-1]; sp++; break;
        case SWAP: { long t = sp[-1]; sp[-1] = sp[-2]; sp[-2] = t; break; }
        case JNZ: { int target = *pc++; if (*--sp) pc = code + target; break; }
        case PRINT: print_value(sp[-1]); break;
        case POP: sp--; break;
        case HALT: return steps;
        }
    }
}
PROGRAM {
    static const int factorial[] = {PUSH, 1, PUSH, 12, /*4*/ DUP, PUSH, 1, SUB, SWAP, PUSH, 3, SWAP, POP, POP, SWAP, PUSH, 2, MUL, PRINT, SWAP, DUP, JNZ, 4, HALT};
    printf("%ld\n", execute(factorial));
    return 0;
}
