# Strange but legal: jump after return, jump to the next instruction, NOP functions, chains of jumps, infinite loop never entered, endings in traps.
    .text
    .type after_return, @function
after_return:
    .cfi_startproc
    movl %edi, %eax
    ret
    jmp after_return
    .cfi_endproc
    .size after_return, . - after_return

    .type jump_to_next, @function
jump_to_next:
    .cfi_startproc
    jmp .Ln1
.Ln1:
    movl %edi, %eax
    jmp .Ln2
.Ln2:
    incl %eax
    je .Ln3
.Ln3:
    ret
    .cfi_endproc
    .size jump_to_next, . - jump_to_next

    .type nops, @function
nops:
    .cfi_startproc
    nop
    nopl 0(%rax)
    nopw 0(%rax,%rax,1)
    .byte 0x66, 0x66, 0x2e, 0x0f, 0x1f, 0x84, 0x00, 0x00, 0x00, 0x00, 0x00
    xchgw %ax, %ax
    movl %edi, %eax
    rep ret
    .cfi_endproc
    .size nops, . - nops

    .type only_nops, @function
only_nops:
    .cfi_startproc
    nop
    ret
    .cfi_endproc
    .size only_nops, . - only_nops

    .type chain, @function
chain:
    .cfi_startproc
    jmp .Lc1
.Lc3:
    jmp .Lc4
.Lc1:
    jmp .Lc2
.Lc4:
    leal 5(%rdi), %eax
    ret
.Lc2:
    jmp .Lc3
    .cfi_endproc
    .size chain, . - chain

    .type endless, @function
endless:
    .cfi_startproc
    testl %edi, %edi
    js .Lspin
    leal 6(%rdi), %eax
    ret
.Lspin:
    pause
    jmp .Lspin
    .cfi_endproc
    .size endless, . - endless

    .type ends_in_trap, @function
ends_in_trap:
    .cfi_startproc
    leal 7(%rdi), %eax
    cmpl $100, %edi
    jae .Lbad
    ret
.Lbad:
    ud2
    .cfi_endproc
    .size ends_in_trap, . - ends_in_trap

    .type ends_in_call, @function
ends_in_call:
    .cfi_startproc
    cmpl $100, %edi
    ja .Lbad2
    leal 8(%rdi), %eax
    ret
.Lbad2:
    call abort@PLT
    .cfi_endproc
    .size ends_in_call, . - ends_in_call

    .type ends_in_hlt, @function
ends_in_hlt:
    .cfi_startproc
    leal 9(%rdi), %eax
    cmpl $100, %edi
    ja .Lbad3
    ret
.Lbad3:
    hlt
    .cfi_endproc
    .size ends_in_hlt, . - ends_in_hlt

    .type double_condition, @function
double_condition:
    .cfi_startproc
    cmpl $2, %edi
    jl .Ld1
    jg .Ld2
    movl $200, %eax
    ret
.Ld1:
    movl $201, %eax
    ret
.Ld2:
    jp .Ld1
    movl $202, %eax
    ret
    .cfi_endproc
    .size double_condition, . - double_condition

    .globl main
    .type main, @function
main:
    .cfi_startproc
    pushq %rbx
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset %rbx, 0
    movl $0, %ebx
.Lmain_after_return:
    movl %ebx, %edi
    call after_return
    movl %eax, %edi
    call show
    incl %ebx
    cmpl $3, %ebx
    jne .Lmain_after_return
    movl $0, %ebx
.Lmain_jump_to_next:
    movl %ebx, %edi
    call jump_to_next
    movl %eax, %edi
    call show
    incl %ebx
    cmpl $3, %ebx
    jne .Lmain_jump_to_next
    movl $0, %ebx
.Lmain_nops:
    movl %ebx, %edi
    call nops
    movl %eax, %edi
    call show
    incl %ebx
    cmpl $3, %ebx
    jne .Lmain_nops
    movl $0, %ebx
.Lmain_chain:
    movl %ebx, %edi
    call chain
    movl %eax, %edi
    call show
    incl %ebx
    cmpl $3, %ebx
    jne .Lmain_chain
    movl $0, %ebx
.Lmain_endless:
    movl %ebx, %edi
    call endless
    movl %eax, %edi
    call show
    incl %ebx
    cmpl $3, %ebx
    jne .Lmain_endless
    movl $0, %ebx
.Lmain_ends_in_trap:
    movl %ebx, %edi
    call ends_in_trap
    movl %eax, %edi
    call show
    incl %ebx
    cmpl $3, %ebx
    jne .Lmain_ends_in_trap
    movl $0, %ebx
.Lmain_ends_in_call:
    movl %ebx, %edi
    call ends_in_call
    movl %eax, %edi
    call show
    incl %ebx
    cmpl $3, %ebx
    jne .Lmain_ends_in_call
    movl $0, %ebx
.Lmain_ends_in_hlt:
    movl %ebx, %edi
    call ends_in_hlt
    movl %eax, %edi
    call show
    incl %ebx
    cmpl $3, %ebx
    jne .Lmain_ends_in_hlt
    movl $0, %ebx
.Lmain_double_condition:
    movl %ebx, %edi
    call double_condition
    movl %eax, %edi
    call show
    incl %ebx
    cmpl $5, %ebx
    jne .Lmain_double_condition
    call only_nops
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
