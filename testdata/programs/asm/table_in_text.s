# Jump tables inside the text section: absolute differences to the table, right behind the jump, between functions.
    .text
    .type choose, @function
choose:
    .cfi_startproc
    cmpl $4, %edi
    ja .Ldefault
    leaq .Ltable(%rip), %rdx
    movslq (%rdx,%rdi,4), %rax
    addq %rdx, %rax
    jmp *%rax
    .balign 4
.Ltable:
    .long .L0 - .Ltable, .L1 - .Ltable, .L2 - .Ltable, .L1 - .Ltable, .L4 - .Ltable
.L0:
    movl $10, %eax
    ret
.L1:
    movl $21, %eax
    ret
.L2:
    movl $32, %eax
    jmp .Lend
.L4:
    movl $54, %eax
.Lend:
    addl %edi, %eax
    ret
.Ldefault:
    movl $-1, %eax
    ret
    .cfi_endproc
    .size choose, . - choose

    .type masked, @function
masked:
    .cfi_startproc
    andl $3, %edi
    leaq table_behind(%rip), %rdx
    movslq (%rdx,%rdi,4), %rax
    addq %rdx, %rax
    jmp *%rax
.Lm0:
    movl $100, %eax
    ret
.Lm1:
    movl $101, %eax
    ret
.Lm2:
    movl $102, %eax
    ret
.Lm3:
    movl $103, %eax
    ret
    .cfi_endproc
    .size masked, . - masked

    .balign 8
table_behind:
    .long .Lm0 - table_behind, .Lm1 - table_behind, .Lm2 - table_behind, .Lm3 - table_behind
    .size table_behind, . - table_behind

    .globl main
    .type main, @function
main:
    .cfi_startproc
    pushq %rbx
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset %rbx, 0
    movl $0, %ebx
.Lmain_choose:
    movl %ebx, %edi
    call choose
    movl %eax, %edi
    call show
    incl %ebx
    cmpl $6, %ebx
    jne .Lmain_choose
    movl $0, %ebx
.Lmain_masked:
    movl %ebx, %edi
    call masked
    movl %eax, %edi
    call show
    incl %ebx
    cmpl $5, %ebx
    jne .Lmain_masked
    xorl %eax, %eax
    popq %rbx
    .cfi_adjust_cfa_offset -8
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

    .section .rodata.str1.1,"aMS",@progbits,1
decimal:
    .string "%d\n"
    .section .note.GNU-stack,"",@progbits
