# A table of return addresses, as runtime systems keep to find what stands on the stack (OCaml's frame tables): a callee
# looks its own return address up. One is also the target of a branch, one the entry of the next function.
    .text
    .type look_up, @function
look_up:
    .cfi_startproc
    movq (%rsp), %rax
    leaq frames(%rip), %rcx
.Lnext:
    movq (%rcx), %rdx
    testq %rdx, %rdx
    je .Lnone
    cmpq %rax, %rdx
    je .Lfound
    addq $16, %rcx
    jmp .Lnext
.Lfound:
    movl 8(%rcx), %eax
    ret
.Lnone:
    movl $-1, %eax
    ret
    .cfi_endproc
    .size look_up, . - look_up

    .type twice, @function
twice:
    .cfi_startproc
    pushq %rbx
    .cfi_adjust_cfa_offset 8
    .cfi_offset %rbx, -16
    xorl %ebx, %ebx
    testl %edi, %edi
    je .Lsecond
    call look_up
.Lbehind_first:
    addl %eax, %ebx
.Lsecond:
    call look_up
.Lbehind_second:
    addl %eax, %ebx
    cmpl $1000, %ebx
    jl .Lsecond
    movl %ebx, %eax
    popq %rbx
    .cfi_adjust_cfa_offset -8
    .cfi_restore %rbx
    ret
    .cfi_endproc
    .size twice, . - twice

    .type loops, @function
loops:
    .cfi_startproc
    pushq %rbx
    .cfi_adjust_cfa_offset 8
    .cfi_offset %rbx, -16
    movl %edi, %ebx
    jmp .Lbehind_third
.Lagain:
    xorl %eax, %eax
    call look_up
.Lbehind_third:
    subl $1, %ebx
    jg .Lagain
    popq %rbx
    .cfi_adjust_cfa_offset -8
    .cfi_restore %rbx
    ret
    .cfi_endproc
    .size loops, . - loops

    .type resume, @function
resume:
    .cfi_startproc
    call look_up
    addq $8, %rsp
    .cfi_adjust_cfa_offset -8
    ret
    .cfi_endproc
    .size resume, . - resume

    .type ends_with_call, @function
ends_with_call:
    .cfi_startproc
    testl %edi, %edi
    jne .Lcall
    movl $5, %eax
    ret
.Lcall:
    call resume
    .cfi_endproc
    .size ends_with_call, . - ends_with_call

    .type begins_there, @function
begins_there:
    .cfi_startproc
    leal 7(%rdi), %eax
    ret
    .cfi_endproc
    .size begins_there, . - begins_there

    .globl main
    .type main, @function
main:
    .cfi_startproc
    pushq %rbx
    .cfi_adjust_cfa_offset 8
    .cfi_offset %rbx, -16
    movl $1, %edi
    call twice
    movl %eax, %esi
    leaq format(%rip), %rdi
    xorl %eax, %eax
    call printf@PLT
    movl $3, %edi
    call loops
    movl %eax, %esi
    leaq format(%rip), %rdi
    xorl %eax, %eax
    call printf@PLT
    xorl %edi, %edi
    call ends_with_call
    movl %eax, %edi
    call begins_there
    movl %eax, %esi
    leaq format(%rip), %rdi
    xorl %eax, %eax
    call printf@PLT
    xorl %edi, %edi
    call fflush@PLT
    xorl %eax, %eax
    popq %rbx
    .cfi_adjust_cfa_offset -8
    .cfi_restore %rbx
    ret
    .cfi_endproc
    .size main, . - main
    .globl program_main
    .set program_main, main

    .section .data.rel.ro,"aw",@progbits
    .balign 8
frames:
    .quad .Lbehind_first, 100
    .quad .Lbehind_second, 300
    .quad .Lbehind_third, 17
    .quad begins_there, 23
    .quad 0
    .section .rodata
format:
    .string "%d\n"
    .section .note.GNU-stack,"",@progbits
