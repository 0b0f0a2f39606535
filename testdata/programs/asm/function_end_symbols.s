# lea of symbols at the end of a function: one past its last byte, where another begins. Begin and end bound a range.
    .text
    .section .text.region,"ax",@progbits
region_begin:
    .type inside_one, @function
inside_one:
    .cfi_startproc
    leal 1(%rdi), %eax
    cmpl $4, %edi
    jg .Lx
    ret
.Lx:
    addl $100, %eax
    ret
    .cfi_endproc
    .size inside_one, . - inside_one

    .type inside_two, @function
inside_two:
    .cfi_startproc
    leal 2(%rdi), %eax
    ret
    .cfi_endproc
    .size inside_two, . - inside_two

region_end:
    .type outside, @function
outside:
    .cfi_startproc
    leal 3(%rdi), %eax
    ret
    .cfi_endproc
    .size outside, . - outside

    .text
    .type is_inside, @function
is_inside:
    .cfi_startproc
    leaq region_begin(%rip), %rcx
    leaq region_end(%rip), %rdx
    leaq functions(%rip), %rax
    movl %edi, %edi
    movq (%rax,%rdi,8), %rsi
    xorl %eax, %eax
    cmpq %rcx, %rsi
    jb .Lno
    cmpq %rdx, %rsi
    jae .Lno
    incl %eax
.Lno:
    ret
    .cfi_endproc
    .size is_inside, . - is_inside

    .type all, @function
all:
    .cfi_startproc
    subq $8, %rsp
    .cfi_adjust_cfa_offset 8
    call inside_one
    movl %eax, %edi
    call inside_two
    movl %eax, %edi
    call outside
    addq $8, %rsp
    .cfi_adjust_cfa_offset -8
    ret
    .cfi_endproc
    .size all, . - all

    .globl main
    .type main, @function
main:
    .cfi_startproc
    pushq %rbx
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset %rbx, 0
    movl $0, %ebx
.Lmain_is_inside:
    movl %ebx, %edi
    call is_inside
    movl %eax, %edi
    call show
    incl %ebx
    cmpl $3, %ebx
    jne .Lmain_is_inside
    movl $0, %ebx
.Lmain_all:
    movl %ebx, %edi
    call all
    movl %eax, %edi
    call show
    incl %ebx
    cmpl $6, %ebx
    jne .Lmain_all
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
functions:
    .quad inside_one, inside_two, outside
    .section .note.GNU-stack,"",@progbits
