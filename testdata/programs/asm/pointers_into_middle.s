# Data holds addresses of the middle and of the end of functions, and distances between them.
    .text
    .type body, @function
body:
    .cfi_startproc
    movl %edi, %eax
    addl $1, %eax
.Lin1:
    addl $10, %eax
    testl $1, %edi
    jne .Lin2
    addl $5, %eax
.Lin2:
    addl $100, %eax
    ret
.Lend_of_body:
    .cfi_endproc
    .size body, . - body

    .type enter, @function
enter:
    .cfi_startproc
    leaq inner(%rip), %rcx
    movl %edi, %eax
    andl $1, %edi
    jmp *(%rcx,%rdi,8)
    .cfi_endproc
    .size enter, . - enter

    .type in_range, @function
in_range:
    .cfi_startproc
    leaq body(%rip), %rax
    leaq inner(%rip), %rcx
    movq (%rcx), %rcx
    cmpq %rax, %rcx
    seta %al
    movzbl %al, %eax
    addl %edi, %eax
    ret
    .cfi_endproc
    .size in_range, . - in_range

    .type size_of_body, @function
size_of_body:
    .cfi_startproc
    movl body_size(%rip), %eax
    testl %eax, %eax
    setg %al
    movzbl %al, %eax
    addl %edi, %eax
    ret
    .cfi_endproc
    .size size_of_body, . - size_of_body

    .globl main
    .type main, @function
main:
    .cfi_startproc
    pushq %rbx
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset %rbx, 0
    movl $0, %ebx
.Lmain_body:
    movl %ebx, %edi
    call body
    movl %eax, %edi
    call show
    incl %ebx
    cmpl $2, %ebx
    jne .Lmain_body
    movl $0, %ebx
.Lmain_enter:
    movl %ebx, %edi
    call enter
    movl %eax, %edi
    call show
    incl %ebx
    cmpl $2, %ebx
    jne .Lmain_enter
    movl $0, %ebx
.Lmain_in_range:
    movl %ebx, %edi
    call in_range
    movl %eax, %edi
    call show
    incl %ebx
    cmpl $1, %ebx
    jne .Lmain_in_range
    movl $0, %ebx
.Lmain_size_of_body:
    movl %ebx, %edi
    call size_of_body
    movl %eax, %edi
    call show
    incl %ebx
    cmpl $1, %ebx
    jne .Lmain_size_of_body
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
inner:
    .quad .Lin1, .Lin2, .Lend_of_body
    .section .rodata,"a",@progbits
    .balign 4
body_size:
    .long .Lend_of_body - body
    .section .note.GNU-stack,"",@progbits
