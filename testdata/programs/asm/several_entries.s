# Aliases, symbols without size or type, entries in the middle, symbols that are too long or too short.
    .text
    .globl first_name, second_name
    .type first_name, @function
    .type second_name, @function
first_name:
second_name:
local_name:
    .cfi_startproc
    addl $1, %edi
middle_entry:
    addl $10, %edi
    .globl global_middle
    .type global_middle, @function
global_middle:
    addl $100, %edi
    cmpl $115, %edi
    ja .Lbig
no_type_no_size:
    movl %edi, %eax
    ret
.Lbig:
    leal 1000(%rdi), %eax
    ret
    .cfi_endproc
    .size first_name, . - first_name
    .size second_name, . - second_name

# No symbol of its own: reached by a call to a local label.
.Lanonymous:
    imull $7, %edi, %eax
    ret

    .type too_short, @function
too_short:
    .cfi_startproc
    testl %edi, %edi
    jne .Lbeyond
    movl $5, %eax
    ret
    .size too_short, . - too_short
.Lbeyond:
    movl $6, %eax
    ret
    .cfi_endproc

    .type too_long, @function
too_long:
    .cfi_startproc
    leal 8(%rdi), %eax
    ret
    .cfi_endproc
    .type swallowed, @function
swallowed:
    .cfi_startproc
    leal 9(%rdi), %eax
    ret
    .cfi_endproc
    .size too_long, . - too_long
    .size swallowed, . - swallowed

    .type each, @function
each:
    .cfi_startproc
    pushq %rbx
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset %rbx, 0
    movl %edi, %ebx
    call first_name@PLT
    movl %eax, %edi
    call show
    movl %ebx, %edi
    call local_name
    movl %eax, %edi
    call show
    movl %ebx, %edi
    call middle_entry
    movl %eax, %edi
    call show
    movl %ebx, %edi
    call global_middle@PLT
    movl %eax, %edi
    call show
    movl %ebx, %edi
    call no_type_no_size
    movl %eax, %edi
    call show
    movl %ebx, %edi
    call .Lanonymous
    movl %eax, %edi
    call show
    movl %ebx, %edi
    call too_short
    movl %eax, %edi
    call show
    movl %ebx, %edi
    call too_long
    movl %eax, %edi
    call show
    movl %ebx, %edi
    call swallowed
    popq %rbx
    .cfi_adjust_cfa_offset -8
    ret
    .cfi_endproc
    .size each, . - each

    .globl main
    .type main, @function
main:
    .cfi_startproc
    pushq %rbx
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset %rbx, 0
    movl $0, %ebx
.Lmain_each:
    movl %ebx, %edi
    call each
    movl %eax, %edi
    call show
    incl %ebx
    cmpl $7, %ebx
    jne .Lmain_each
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
