# Tables of distances between functions that count from another place in the section, which only the assembler knows (ffmpeg's FFT):
# eight bytes from a function, four bytes from the middle of one, and an index that counts from 2.
    .text
    .p2align 4
    .type first, @function
first:
    .cfi_startproc
    leal 1(%rdi), %eax
    testl %edi, %edi
    jne .Lmiddle
    addl $100, %eax
.Lmiddle:
    ret
    .cfi_endproc
    .size first, . - first

    .p2align 4
    .type double, @function
double:
    .cfi_startproc
    leal (%rdi,%rdi), %eax
    ret
    .cfi_endproc
    .size double, . - double

    .p2align 4
    .type square, @function
square:
    .cfi_startproc
    movl %edi, %eax
    imull %edi, %eax
    testl %eax, %eax
    jne .Lsquared
    movl $-1, %eax
.Lsquared:
    ret
    .cfi_endproc
    .size square, . - square

    .p2align 4
    .type negative, @function
negative:
    .cfi_startproc
    movl %edi, %eax
    negl %eax
    ret
    .cfi_endproc
    .size negative, . - negative

    .p2align 4
    .type call_wide, @function
call_wide:
    .cfi_startproc
    pushq %rbx
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset %rbx, 0
    movslq %esi, %rsi
    leaq wide(%rip), %rdx
    movq -16(%rdx,%rsi,8), %rdx
    leaq first(%rip), %rbx
    addq %rbx, %rdx
    call *%rdx
    popq %rbx
    .cfi_adjust_cfa_offset -8
    .cfi_restore %rbx
    ret
    .cfi_endproc
    .size call_wide, . - call_wide
    .p2align 3
wide:
    .quad double - first, square - first, negative - first, square - first

    .p2align 4
    .type call_narrow, @function
call_narrow:
    .cfi_startproc
    pushq %rbx
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset %rbx, 0
    movslq %esi, %rsi
    leaq .Lmiddle(%rip), %rbx
    leaq narrow(%rip), %rdx
    movslq -8(%rdx,%rsi,4), %rdx
    addq %rbx, %rdx
    call *%rdx
    popq %rbx
    .cfi_adjust_cfa_offset -8
    .cfi_restore %rbx
    ret
    .cfi_endproc
    .size call_narrow, . - call_narrow
narrow:
    .long square - .Lmiddle, negative - .Lmiddle, double - .Lmiddle, first - .Lmiddle

    .p2align 4
    .globl main
    .type main, @function
main:
    .cfi_startproc
    pushq %rbx
    .cfi_adjust_cfa_offset 8
    .cfi_offset %rbx, -16
    movl $2, %ebx
.Lloop:
    leal 5(%rbx), %edi
    movl %ebx, %esi
    call call_wide
    movl %eax, %edi
    call show
    leal 7(%rbx), %edi
    movl %ebx, %esi
    call call_narrow
    movl %eax, %edi
    call show
    addl $1, %ebx
    cmpl $6, %ebx
    jne .Lloop
    xorl %eax, %eax
    popq %rbx
    .cfi_adjust_cfa_offset -8
    .cfi_restore %rbx
    ret
    .cfi_endproc
    .size main, . - main
    .globl program_main
    .set program_main, main

# Prints %edi in decimal.
    .type show, @function
show:
    .cfi_startproc
    subq $8, %rsp
    .cfi_adjust_cfa_offset 8
    movl %edi, %esi
    leaq decimal(%rip), %rdi
    xorl %eax, %eax
    call printf@PLT
    addq $8, %rsp
    .cfi_adjust_cfa_offset -8
    ret
    .cfi_endproc
    .size show, . - show

    .section .rodata.str1.1, "aMS", @progbits, 1
decimal:
    .string "%d\n"
    .section .note.GNU-stack, "", @progbits
