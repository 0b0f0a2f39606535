# Encodings that a rewriter may shorten or lose: long displacements, redundant prefixes, 32-bit addresses, wide NOPs, relative operands with trailing immediates.
    .text
    .type encodings, @function
encodings:
    .cfi_startproc
    leaq word(%rip), %rax
    .byte 0x3e
    addl $1, (%rax)
    .byte 0x67
    leal 5(%rdi), %ecx
    cmpl $0x12345678, word(%rip)
    je .Lnever
    movl $7, word+4(%rip)
    movw $9, word+8(%rip)
    testb $1, word+8(%rip)
    je .Lnever
    imull $3, word+4(%rip), %edx
    shldl $3, %edx, word+12(%rip)
    .byte 0x0f, 0x8f
    .long .Ltaken - . - 4
    xorl %ecx, %ecx
.Ltaken:
    .byte 0xe9
    .long .Lhere - . - 4
.Lhere:
    .byte 0xf2
    jmp .Lthere
.Lthere:
    leal (%rcx,%rdx), %eax
    addl word(%rip), %eax
    ret
.Lnever:
    movl $-1, %eax
    ret
    .cfi_endproc
    .size encodings, . - encodings

    .type never_transactional, @function
never_transactional:
    .cfi_startproc
    testl %edi, %edi
    jns .Lplain
    .byte 0xc7, 0xf8
    .long .Labort - . - 4
.Lplain:
    movl $5, %eax
    ret
.Labort:
    movl $6, %eax
    ret
    .cfi_endproc
    .size never_transactional, . - never_transactional

    .globl main
    .type main, @function
main:
    .cfi_startproc
    pushq %rbx
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset %rbx, 0
    movl $0, %ebx
.Lmain_encodings:
    movl %ebx, %edi
    call encodings
    movl %eax, %edi
    call show
    incl %ebx
    cmpl $3, %ebx
    jne .Lmain_encodings
    movl $0, %ebx
.Lmain_never_transactional:
    movl %ebx, %edi
    call never_transactional
    movl %eax, %edi
    call show
    incl %ebx
    cmpl $1, %ebx
    jne .Lmain_never_transactional
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
    .balign 16
word:
    .long 1, 2, 3, 4
    .section .note.GNU-stack,"",@progbits
