// Restartable sequences (rseq): a table has the start of a sequence and its length, which no relocation tells of. Here a
// signal in the sequence goes on at the handler that the table names, as the kernel does it.
//@ flags: -fno-pie -no-pie
//@ build: kinds=exec,static
#define _GNU_SOURCE
#include "../program.h"
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/ucontext.h>
#include <unistd.h>
struct sequence { uint32_t version, flags; uint64_t start, length, abort; };
extern const struct sequence __start___rseq_cs[], __stop___rseq_cs[];
static int aborted;
static void on_signal(int number, siginfo_t *info, void *context) {
    greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    uint64_t at = registers[REG_RIP];
    for (const struct sequence *s = __start___rseq_cs; s < __stop___rseq_cs; s++)
        if (at - s->start < s->length) { registers[REG_RIP] = s->abort; aborted++; return; }
    (void)!write(1, "outside\n", 8);
    _exit(1);
}
NOINLINE int add(int x, volatile long *sum) {
    asm goto(".pushsection __rseq_cs, \"aw\"\n.balign 32\n.long 0, 0\n.quad 1f, 2f - 1f, %l[abort]\n.popsection\n"
             "1: cmp $3, %0\n je 3f\n incq (%1)\n test $1, %b0\n jz 5f\n ud2\n jmp 2f\n3: decq (%1)\n ud2\n5: incq (%1)\n2:\n"
             : : "r"(x), "r"(sum) : "memory", "cc" : abort);
    return 1;
abort:
    return -1;
}
NOINLINE int other(int x) { return x > 4 ? x * 3 : x - 9; }
PROGRAM {
    struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO};
    sigaction(SIGILL, &action, 0);
    volatile long sum = 0;
    for (int i = 0; i < 10; i++) printf("%d %d\n", add(i, &sum), other(i));
    printf("%ld %d\n", sum, aborted);
    return 0;
}
