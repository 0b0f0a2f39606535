// Arrays and structures of function pointers: read-only after relocation, writable, with addends, on the stack.
#include "../program.h"
#include <stdio.h>
#include <string.h>
struct operations { const char *name; int (*open)(int); int (*close)(int); void (*log)(const char *); };
static int file_open(int x) { return x + 1; }
static int file_close(int x) { return x - 1; }
static int pipe_open(int x) { return x * 2; }
static int pipe_close(int x) { return x / 2; }
static void log_plain(const char *s) { printf("plain %s\n", s); }
static void log_loud(const char *s) { printf("LOUD %s\n", s); }
static const struct operations kinds[] = {{"file", file_open, file_close, log_plain}, {"pipe", pipe_open, pipe_close, log_loud}, {"mixed", file_open, pipe_close, 0}};
struct operations *const volatile exported = (struct operations *)&kinds[1];
static int (*writable[4])(int) = {file_open, 0, pipe_open};
PROGRAM {
    for (int i = 0; i < 3; i++) {
        const struct operations *o = &kinds[i];
        printf("%s %d %d\n", o->name, o->open(10), o->close(10));
        if (o->log) o->log(o->name);
    }
    writable[1] = exported->close;
    writable[3] = writable[0];
    int (*local[4])(int);
    memcpy(local, writable, sizeof local);
    for (int i = 0; i < 4; i++) printf("%d\n", local[i](100 + i));
    return 0;
}
