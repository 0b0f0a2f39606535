// A variable of a library copied into the program, and a function of the library whose address the program defines (its PLT).
//@ build: kinds=exec,pie
//@ library: shared.c
#include "../program.h"
#include <stdio.h>
extern int shared_variable;
extern int (*const shared_table[2])(int);
extern int shared_function(int);
extern int shared_read(void);
extern int shared_is(int (*)(int));
int (*in_data)(int) = shared_function;
int overridden(int x) { return x + 5000; }
PROGRAM {
    shared_variable += 41;
    printf("%d %d\n", shared_variable, shared_read());
    printf("%d %d\n", shared_table[0](3), in_data(4));
    printf("%d %d %d\n", in_data == shared_function, shared_is(in_data), shared_table[0] == in_data);
    printf("%d\n", shared_table[1](1));
    return 0;
}
