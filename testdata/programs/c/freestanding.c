// No libc, own entry point, own system calls: the smallest static file.
//@ build: tag=static kinds=static
//@ flags: -nostdlib -ffreestanding -fno-stack-protector -fno-builtin
//@ build: tag=static-pie kinds=static-pie linkers=ld,lld
//@ flags: -nostdlib -ffreestanding -fno-stack-protector -fno-builtin -fcf-protection=none
//@ exit: 42
static long call3(long n, long a, long b, long c) {
    long r;
    __asm__ volatile("syscall" : "=a"(r) : "a"(n), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
    return r;
}
__attribute__((noinline)) static void print(const char *s) { long n = 0; while (s[n]) n++; call3(1, 1, (long)s, n); }
__attribute__((noinline)) int choose(unsigned n) {
    switch (n) { case 0: print("zero\n"); return 1; case 1: return 2; case 2: print("two\n"); return 3; case 3: return 4; case 4: print("four\n"); return 5; case 5: return 6; default: return 0; }
}
__attribute__((noreturn, used)) void begin(long *stack) {
    int sum = 0;
    for (unsigned i = 0; i < 7; i++) sum += choose(i);
    print(stack[0] == 1 ? "one argument\n" : "other\n");
    call3(231, sum * 2, 0, 0);
    __builtin_unreachable();
}
__asm__(".globl _start\n_start:\n xor %ebp, %ebp\n mov %rsp, %rdi\n and $-16, %rsp\n call begin\n hlt\n");
