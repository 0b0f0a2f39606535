# Overlapping instructions: a jump past the lock prefix of the next instruction.
    .text
    .type add_shared, @function
add_shared:
    .cfi_startproc
    leaq counter(%rip), %rax
    cmpl $2, %edi
    jb .Lsingle
    .byte 0xf0
.Lsingle:
    addl %edi, (%rax)
    movl (%rax), %eax
    ret
    .cfi_endproc
    .size add_shared, . - add_shared

    .type into_immediate, @function
into_immediate:
    .cfi_startproc
    xorl %eax, %eax
    testl %edi, %edi
    je .Linside - 0
    .byte 0xb8
.Linside:
    movb $7, %al
    nop
    nop
    nop
    andl $0xff, %eax
    ret
    .cfi_endproc
    .size into_immediate, . - into_immediate

    .globl main
    .type main, @function
main:
    .cfi_startproc
    pushq %rbx
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset %rbx, 0
    movl $0, %ebx
.Lmain_add_shared:
    movl %ebx, %edi
    call add_shared
    movl %eax, %edi
    call show
    incl %ebx
    cmpl $5, %ebx
    jne .Lmain_add_shared
    movl $0, %ebx
.Lmain_into_immediate:
    movl %ebx, %edi
    call into_immediate
    movl %eax, %edi
    call show
    incl %ebx
    cmpl $2, %ebx
    jne .Lmain_into_immediate
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
    .data
    .balign 4
counter:
    .long 100
    .section .note.GNU-stack,"",@progbits
