// Code after ud2 and int3 runs: the handler steps over the instruction. A trap is not always the end.
#define _GNU_SOURCE
#include "../program.h"
#include <signal.h>
#include <stdio.h>
#include <ucontext.h>
static volatile int traps;
static void on_trap(int signal, siginfo_t *info, void *context) {
    (void)info;
    traps++;
    if (signal == SIGILL) ((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP] += 2;
}
NOINLINE int warns(int x) {
    if (x & 1) {
        __asm__ volatile("ud2");
        x += 10;
    }
    __asm__ volatile("int3");
    return x * 2;
}
PROGRAM {
    struct sigaction action = {.sa_sigaction = on_trap, .sa_flags = SA_SIGINFO};
    sigaction(SIGILL, &action, 0);
    sigaction(SIGTRAP, &action, 0);
    for (int i = 0; i < 4; i++) printf("%d\n", warns(i));
    printf("traps %d\n", traps);
    return 0;
}
