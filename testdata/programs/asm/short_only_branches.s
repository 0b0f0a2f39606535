# jrcxz, jecxz and loop reach 127 bytes only: their targets may end up far away.
    .text
    .type count_down, @function
count_down:
    .cfi_startproc
    movl %edi, %ecx
    xorl %eax, %eax
    jrcxz .Lempty
.Lagain:
    addl %ecx, %eax
    cmpl $1000, %eax
    ja .Lhuge
    loop .Lagain
    movl %edi, %ecx
    subl $4, %ecx
    jecxz .Lfour
    ret
.Lempty:
    movl $-1, %eax
    ret
.Lfour:
    addl $4000, %eax
    ret
.Lhuge:
    movl $-2, %eax
    ret
    .cfi_endproc
    .size count_down, . - count_down

    .type until_equal, @function
until_equal:
    .cfi_startproc
    movl $10, %ecx
    xorl %eax, %eax
.Lnext:
    addl $3, %eax
    cmpl %edi, %eax
    loopne .Lnext
    je .Lfound
    negl %eax
    ret
.Lfound:
    imull $100, %ecx, %ecx
    addl %ecx, %eax
    ret
    .cfi_endproc
    .size until_equal, . - until_equal

    .type while_equal, @function
while_equal:
    .cfi_startproc
    movl $5, %ecx
    movl %edi, %eax
.Lmore:
    incl %eax
    testl $1, %edi
    loope .Lmore
    ret
    .cfi_endproc
    .size while_equal, . - while_equal

    .globl main
    .type main, @function
main:
    .cfi_startproc
    pushq %rbx
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset %rbx, 0
    movl $0, %ebx
.Lmain_count_down:
    movl %ebx, %edi
    call count_down
    movl %eax, %edi
    call show
    incl %ebx
    cmpl $6, %ebx
    jne .Lmain_count_down
    movl $60, %edi
    call count_down
    movl %eax, %edi
    call show
    movl $3, %ebx
.Lmain_until_equal:
    movl %ebx, %edi
    call until_equal
    movl %eax, %edi
    call show
    incl %ebx
    cmpl $13, %ebx
    jne .Lmain_until_equal
    movl $0, %ebx
.Lmain_while_equal:
    movl %ebx, %edi
    call while_equal
    movl %eax, %edi
    call show
    incl %ebx
    cmpl $2, %ebx
    jne .Lmain_while_equal
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
