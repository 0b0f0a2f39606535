// fork, vfork, exec and wait: the child runs in the parent's memory and must leave by _exit.
#define _DEFAULT_SOURCE
#include "../program.h"
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>
static volatile int shared;
NOINLINE int run_shell(const char *command) {
    pid_t child = vfork();
    if (child == 0) { execl("/bin/sh", "sh", "-c", command, (char *)0); _exit(99); }
    int status;
    waitpid(child, &status, 0);
    return WEXITSTATUS(status);
}
NOINLINE int in_parent_memory(void) {
    pid_t child = vfork();
    if (child == 0) { shared = 5; _exit(shared + 1); }
    int status;
    waitpid(child, &status, 0);
    return WEXITSTATUS(status) * 10 + shared;
}
NOINLINE int in_own_memory(void) {
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) { shared = 50; puts("child"); fflush(stdout); _exit(3); }
    int status;
    waitpid(child, &status, 0);
    return WEXITSTATUS(status) * 10 + shared;
}
PROGRAM { printf("%d\n", run_shell("exit 7")); printf("%d\n", in_parent_memory()); printf("%d\n", in_own_memory()); return 0; }
