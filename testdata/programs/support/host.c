// Loads a program that was built as a shared object and runs it.
#include <dlfcn.h>
#include <stdio.h>
int main(int argc, char **argv) {
    if (argc != 2) return 125;
    void *object = dlopen(argv[1], RTLD_NOW | RTLD_GLOBAL);
    if (!object) {
        fprintf(stderr, "%s\n", dlerror());
        return 126;
    }
    int (*program_main)(void) = (int (*)(void))dlsym(object, "program_main");
    if (!program_main) return 127;
    int status = program_main();
    fflush(stdout);
    return status;
}
