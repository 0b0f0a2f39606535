// Thread-local variables in all four models; linkers relax one into the other and change the code.
//@ build: tag=default
//@ build: tag=descriptors compilers=gcc
//@ flags: -mtls-dialect=gnu2
//@ build: tag=unoptimized
//@ flags: -O0
#include "../program.h"
#include <stdio.h>
__thread int general = 1;
static __thread int local_a = 2;
static __thread int local_b = 3;
__thread int initial __attribute__((tls_model("initial-exec"))) = 4;
static __thread char buffer[100];
static __thread long zeroed;
#ifndef PROGRAM_SO
__thread int executable __attribute__((tls_model("local-exec"))) = 5;
#else
__thread int executable = 5;
#endif
NOINLINE int *address_of_general(void) { return &general; }
NOINLINE int sum(void) { return general + local_a + local_b + initial + executable + (int)zeroed + buffer[3]; }
PROGRAM {
    printf("%d\n", sum());
    *address_of_general() = 10;
    local_a += 20;
    local_b *= 7;
    initial = -1;
    executable++;
    zeroed = 1000;
    snprintf(buffer, sizeof buffer, "text %d", general);
    printf("%d %s\n", sum(), buffer);
    return 0;
}
