// Calls that never return, as the last instruction of a function or of a block.
//@ exit: 9
#include "../program.h"
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
static jmp_buf where;
NOINLINE __attribute__((noreturn)) void leave(int code) { printf("leave %d\n", code); longjmp(where, code); }
NOINLINE int only_leaves(int code) { leave(code + 1); }
NOINLINE int next_function(int x) { return x * 11; }
NOINLINE int checks(int x) {
    if (x < 0) leave(20);
    if (x > 100) leave(21);
    return next_function(x);
}
static void at_end(void) { puts("at exit"); fflush(stdout); }
PROGRAM {
    int code = setjmp(where);
    printf("code %d\n", code);
    if (code == 0) only_leaves(1);
    if (code == 2) checks(-1);
    if (code == 20) checks(101);
    printf("%d\n", checks(50));
    atexit(at_end);
    exit(9);
}
