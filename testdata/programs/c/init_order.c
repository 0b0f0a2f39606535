// Constructors and destructors with priorities, .init_array entries, atexit handlers: their order and arguments.
#include "../program.h"
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <string.h>
static char log_text[200];
static void note(const char *s) { strcat(log_text, s); }
__attribute__((constructor(200))) static void c200(void) { note("c200 "); }
__attribute__((constructor(101))) static void c101(void) { note("c101 "); }
__attribute__((constructor)) static void c_default_1(void) { note("c-a "); }
__attribute__((constructor)) static void c_default_2(void) { note("c-b "); }
static void with_arguments(int argc, char **argv, char **envp) { note(argc >= 1 && argv && argv[0] && envp ? "args " : "no-args "); }
__attribute__((section(".init_array"), used)) static void (*entry)(int, char **, char **) = with_arguments;
static void say(const char *s) { fflush(stdout); if (write(1, s, strlen(s)) < 0) _exit(3); }
__attribute__((destructor(200))) static void d200(void) { say("d200\n"); }
__attribute__((destructor(101))) static void d101(void) { say("d101\n"); }
__attribute__((destructor)) static void d_default(void) { say("d\n"); }
static void exit_handler(void) { say("atexit\n"); }
PROGRAM {
    puts(log_text);
    atexit(exit_handler);
    return 0;
}
