// How a program of the matrix begins: `PROGRAM { ... return 0; }`.
// Built as an executable this is main; built as a shared object it is exported for support/host.c.
#ifdef PROGRAM_SO
#ifdef __cplusplus
#define PROGRAM extern "C" __attribute__((visibility("default"))) int program_main(void)
#else
#define PROGRAM __attribute__((visibility("default"))) int program_main(void)
#endif
#else
#define PROGRAM int main(void)
#endif
// A function that stays a function of its own, with its own calling convention.
#ifdef __clang__
#define NOINLINE __attribute__((noinline))
#else
#define NOINLINE __attribute__((noinline, noipa))
#endif
// Hides a value from the optimizer.
#define OPAQUE(value) __asm__ volatile("" : "+r"(value))
