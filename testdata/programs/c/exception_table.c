// A table of faulting instructions and their fixups, as kernels and virtual machines have: the handler sends RIP elsewhere.
//@ stays: so few functions that most are bounds of ranges
#define _GNU_SOURCE
#include "../program.h"
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <ucontext.h>
struct entry { int32_t instruction, fixup; };
extern const struct entry __start_fault_table[] __attribute__((visibility("hidden")));
extern const struct entry __stop_fault_table[] __attribute__((visibility("hidden")));
static void on_fault(int signal, siginfo_t *info, void *context) {
    (void)info;
    greg_t *rip = &((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP];
    for (const struct entry *e = __start_fault_table; e < __stop_fault_table; e++)
        if ((uintptr_t)&e->instruction + e->instruction == (uintptr_t)*rip) { *rip = (greg_t)((uintptr_t)&e->fixup + e->fixup); return; }
    static const char text[] = "no fixup\n";
    if (__builtin_printf("%s", text)) {}
    fflush(stdout);
    _Exit(5 + signal);
}
NOINLINE int safe_read(const int *p, int fallback) {
    int value;
    __asm__ volatile("1: movl (%1), %0\n2:\n"
                     ".pushsection .text.fixups,\"ax\"\n3: movl %2, %0\n jmp 2b\n.popsection\n"
                     ".pushsection fault_table,\"a\"\n.balign 4\n.long 1b - ., 3b - .\n.popsection"
                     : "=&r"(value) : "r"(p), "r"(fallback));
    return value;
}
PROGRAM {
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};
    sigaction(SIGSEGV, &action, 0);
    int there = 12;
    printf("%d %d %d\n", safe_read(&there, -1), safe_read((int *)8, -2), safe_read((int *)4096, -3));
    return 0;
}
