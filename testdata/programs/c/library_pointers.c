// Addresses of library functions: through PLT and GOT, in data, compared with dlsym's; calls without PLT.
//@ build: kinds=exec,pie,so tag=plt
//@ flags: -ldl
//@ build: kinds=exec,pie,so tag=no-plt
//@ flags: -fno-plt -ldl
//@ build: kinds=exec,pie,so tag=now
//@ flags: -Wl,-z,now -ldl
//@ build: kinds=exec,pie,so tag=lazy
//@ flags: -Wl,-z,lazy -ldl
//@ build: kinds=exec,pie,so tag=ibt linkers=ld,lld,gold
//@ flags: -fcf-protection=full -Wl,-z,lazy -ldl
#define _GNU_SOURCE
#include "../program.h"
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>
static size_t (*const in_data)(const char *) = strnlen == 0 ? 0 : strlen;
static int (*volatile writable)(const char *) = puts;
static void *(*table[])(size_t) = {0};
PROGRAM {
    writable("through data");
    printf("%zu\n", in_data("four"));
    printf("%d %d\n", (void *)writable == dlsym(RTLD_DEFAULT, "puts"), (void *)&printf == dlsym(RTLD_DEFAULT, "printf"));
    int (*print)(const char *, ...) = printf;
    OPAQUE(print);
    print("%s %d\n", "through a register", table[0] == 0);
    return 0;
}
