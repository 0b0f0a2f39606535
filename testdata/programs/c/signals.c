// Handlers: sigaction, an alternate stack, siglongjmp out of a fault, nested signals.
#define _GNU_SOURCE
#include "../program.h"
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
static sigjmp_buf recover;
static volatile sig_atomic_t hits;
static void on_fault(int signal, siginfo_t *info, void *context) { (void)context; hits++; siglongjmp(recover, signal + (info->si_addr == (void *)16 ? 100 : 0)); }
static void on_user(int signal) { hits += 10; if (signal == SIGUSR1) raise(SIGUSR2); }
NOINLINE int read_from(volatile int *p) { return *p; }
NOINLINE int divide(int a, int b) { return a / b; }
PROGRAM {
    static char stack[65536];
    stack_t alternate = {.ss_sp = stack, .ss_size = sizeof stack};
    sigaltstack(&alternate, 0);
    struct sigaction fault = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    sigaction(SIGSEGV, &fault, 0);
    sigaction(SIGFPE, &fault, 0);
    signal(SIGUSR1, on_user);
    signal(SIGUSR2, on_user);
    volatile int *nowhere = (int *)16;
    int code = sigsetjmp(recover, 1);
    if (code == 0) return read_from(nowhere);
    printf("fault %d\n", code);
    code = sigsetjmp(recover, 1);
    if (code == 0) { int zero = 0; OPAQUE(zero); return divide(1, zero); }
    printf("fault %d hits %d\n", code, (int)hits);
    raise(SIGUSR1);
    printf("hits %d\n", (int)hits);
    return 0;
}
