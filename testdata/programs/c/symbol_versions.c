// Two versions of one symbol: each reference gets the one it was linked with.
//@ library-flags: -Wl,--version-script={support}/versioned.map
//@ build: kinds=exec,pie linkers=ld,lld,gold
//@ flags: -ldl
//@ library: versioned.c
#define _GNU_SOURCE
#include "../program.h"
#include <dlfcn.h>
#include <stdio.h>
extern int versioned(int);
extern int hidden_caller(int);
PROGRAM {
    printf("%d %d\n", versioned(1), hidden_caller(1));
    for (int i = 1; i <= 2; i++) {
        char version[16];
        snprintf(version, sizeof version, "VERS_%d.0", i);
        int (*f)(int) = (int (*)(int))dlvsym(RTLD_DEFAULT, "versioned", version);
        printf("%s %d\n", version, f ? f(10) : -1);
    }
    return 0;
}
