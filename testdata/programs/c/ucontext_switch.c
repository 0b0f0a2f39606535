// makecontext and swapcontext: code that runs on other stacks, entered through a pointer.
#include "../program.h"
#include <stdio.h>
#include <ucontext.h>
static ucontext_t scheduler, tasks[3];
static char stacks[3][32768];
static void task(int id, int rounds) { for (int i = 0; i < rounds; i++) { printf("task %d round %d\n", id, i); swapcontext(&tasks[id], &scheduler); } printf("task %d ends\n", id); }
PROGRAM {
    for (int i = 0; i < 3; i++) {
        getcontext(&tasks[i]);
        tasks[i].uc_stack.ss_sp = stacks[i];
        tasks[i].uc_stack.ss_size = sizeof stacks[i];
        tasks[i].uc_link = &scheduler;
        makecontext(&tasks[i], (void (*)(void))task, 2, i, i + 1);
    }
    for (int round = 0; round < 4; round++) for (int i = 0; i < 3; i++) if (round <= i + 1) swapcontext(&scheduler, &tasks[i]);
    puts("done");
    return 0;
}
