# call to the next instruction and pop: the address of the code becomes data. Inner calls, too.
    .text
    .type here, @function
here:
    .cfi_startproc
    call .Lnext
.Lnext:
    popq %rax
    leaq .Lnext(%rip), %rcx
    subq %rcx, %rax
    addl %edi, %eax
    ret
    .cfi_endproc
    .size here, . - here

    .type with_data, @function
with_data:
    .cfi_startproc
    call .Lafter
    .long 10, 20, 30, 40
.Lafter:
    popq %rax
    andl $3, %edi
    movl (%rax,%rdi,4), %eax
    ret
    .cfi_endproc
    .size with_data, . - with_data

    .type inner_call, @function
inner_call:
    .cfi_startproc
    call .Lhelper
    addl $1, %eax
    call .Lhelper
    ret
.Lhelper:
    leal (%rdi,%rdi,2), %edi
    movl %edi, %eax
    ret
    .cfi_endproc
    .size inner_call, . - inner_call

    .type return_trick, @function
return_trick:
    .cfi_startproc
    leaq .Lback(%rip), %rax
    pushq %rax
    .cfi_adjust_cfa_offset 8
    movl %edi, %eax
    ret
    .cfi_adjust_cfa_offset -8
.Lback:
    addl $500, %eax
    ret
    .cfi_endproc
    .size return_trick, . - return_trick

    .globl main
    .type main, @function
main:
    .cfi_startproc
    pushq %rbx
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset %rbx, 0
    movl $0, %ebx
.Lmain_here:
    movl %ebx, %edi
    call here
    movl %eax, %edi
    call show
    incl %ebx
    cmpl $2, %ebx
    jne .Lmain_here
    movl $0, %ebx
.Lmain_with_data:
    movl %ebx, %edi
    call with_data
    movl %eax, %edi
    call show
    incl %ebx
    cmpl $4, %ebx
    jne .Lmain_with_data
    movl $0, %ebx
.Lmain_inner_call:
    movl %ebx, %edi
    call inner_call
    movl %eax, %edi
    call show
    incl %ebx
    cmpl $3, %ebx
    jne .Lmain_inner_call
    movl $0, %ebx
.Lmain_return_trick:
    movl %ebx, %edi
    call return_trick
    movl %eax, %edi
    call show
    incl %ebx
    cmpl $2, %ebx
    jne .Lmain_return_trick
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
