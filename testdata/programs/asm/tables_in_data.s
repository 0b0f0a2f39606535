# Jump tables in writable and read-only data, shared by two jumps, adjacent, with tail calls among the targets.
    .text
    .type by_pointer, @function
by_pointer:
    .cfi_startproc
    cmpl $3, %edi
    ja .Lout
    leaq pointers(%rip), %rax
    movl %edi, %edi
    jmp *(%rax,%rdi,8)
.La:
    movl $1, %eax
    ret
.Lb:
    movl $2, %eax
    ret
.Lc:
    movl $3, %eax
    ret
.Lout:
    movl $-1, %eax
    ret
    .cfi_endproc
    .size by_pointer, . - by_pointer

    .type by_difference, @function
by_difference:
    .cfi_startproc
    cmpl $3, %edi
    ja .Lout2
    leaq differences(%rip), %rdx
    movl %edi, %eax
    movslq (%rdx,%rax,4), %rax
    addq %rdx, %rax
    testl $1, %edi
    jne .Lsecond
    jmp *%rax
.Lsecond:
    addl $50, %edi
    jmp *%rax
.Ld:
    leal 10(%rdi), %eax
    ret
.Le:
    leal 20(%rdi), %eax
    ret
.Lf:
    leal 30(%rdi), %eax
    ret
.Lout2:
    movl $-2, %eax
    ret
    .cfi_endproc
    .size by_difference, . - by_difference

    .type neighbour, @function
neighbour:
    .cfi_startproc
    cmpl $2, %edi
    jae .Lout2b
    leaq differences_next(%rip), %rdx
    movl %edi, %eax
    movslq (%rdx,%rax,4), %rcx
    addq %rdx, %rcx
    jmp *%rcx
.Lg:
    movl $70, %eax
    ret
.Lh:
    movl $80, %eax
    ret
.Lout2b:
    movl $-3, %eax
    ret
    .cfi_endproc
    .size neighbour, . - neighbour

    .type elsewhere, @function
elsewhere:
    .cfi_startproc
    leal 9000(%rdi), %eax
    ret
    .cfi_endproc
    .size elsewhere, . - elsewhere

    .globl main
    .type main, @function
main:
    .cfi_startproc
    pushq %rbx
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset %rbx, 0
    movl $0, %ebx
.Lmain_by_pointer:
    movl %ebx, %edi
    call by_pointer
    movl %eax, %edi
    call show
    incl %ebx
    cmpl $5, %ebx
    jne .Lmain_by_pointer
    movl $0, %ebx
.Lmain_by_difference:
    movl %ebx, %edi
    call by_difference
    movl %eax, %edi
    call show
    incl %ebx
    cmpl $5, %ebx
    jne .Lmain_by_difference
    movl $0, %ebx
.Lmain_neighbour:
    movl %ebx, %edi
    call neighbour
    movl %eax, %edi
    call show
    incl %ebx
    cmpl $3, %ebx
    jne .Lmain_neighbour
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
    .section .data.rel.ro.local,"aw",@progbits
    .balign 8
pointers:
    .quad .La, .Lb, .Lc, elsewhere
    .section .rodata,"a",@progbits
    .balign 4
differences:
    .long .Ld - differences, .Le - differences, .Lf - differences, elsewhere - differences
differences_next:
    .long .Lg - differences_next, .Lh - differences_next
    .section .note.GNU-stack,"",@progbits
