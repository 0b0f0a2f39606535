# Indirect jumps and calls in all operand forms: register, memory, stack slot, with prefixes, through push and ret.
    .text
    .type f0, @function
f0:
    .cfi_startproc
    leal 1(%rdi), %eax
    ret
    .cfi_endproc
    .size f0, . - f0

    .type f1, @function
f1:
    .cfi_startproc
    leal 2(%rdi), %eax
    ret
    .cfi_endproc
    .size f1, . - f1

    .type tail_register, @function
tail_register:
    .cfi_startproc
    leaq f0(%rip), %rax
    testl $1, %edi
    je .Lt
    leaq f1(%rip), %rax
.Lt:
    jmp *%rax
    .cfi_endproc
    .size tail_register, . - tail_register

    .type tail_memory, @function
tail_memory:
    .cfi_startproc
    leaq vector(%rip), %rax
    jmp *8(%rax)
    .cfi_endproc
    .size tail_memory, . - tail_memory

    .type tail_rip, @function
tail_rip:
    .cfi_startproc
    jmp *vector(%rip)
    .cfi_endproc
    .size tail_rip, . - tail_rip

    .type tail_notrack, @function
tail_notrack:
    .cfi_startproc
    leaq f1(%rip), %r11
    notrack jmp *%r11
    .cfi_endproc
    .size tail_notrack, . - tail_notrack

    .type tail_push, @function
tail_push:
    .cfi_startproc
    leaq f1(%rip), %rax
    pushq %rax
    .cfi_adjust_cfa_offset 8
    ret
    .cfi_endproc
    .size tail_push, . - tail_push

    .type call_stack, @function
call_stack:
    .cfi_startproc
    subq $24, %rsp
    .cfi_adjust_cfa_offset 24
    leaq f0(%rip), %rax
    movq %rax, 8(%rsp)
    call *8(%rsp)
    movl %eax, %edi
    call *vector+8(%rip)
    addq $24, %rsp
    .cfi_adjust_cfa_offset -24
    ret
    .cfi_endproc
    .size call_stack, . - call_stack

    .type call_got, @function
call_got:
    .cfi_startproc
    subq $8, %rsp
    .cfi_adjust_cfa_offset 8
    negl %edi
    call *abs@GOTPCREL(%rip)
    movq abs@GOTPCREL(%rip), %rcx
    leal -100(%rax), %edi
    call *%rcx
    addq $8, %rsp
    .cfi_adjust_cfa_offset -8
    ret
    .cfi_endproc
    .size call_got, . - call_got

    .type got_relaxed, @function
got_relaxed:
    .cfi_startproc
    movq exported@GOTPCREL(%rip), %rax
    cmpq exported@GOTPCREL(%rip), %rax
    jne .Lbad
    subq $8, %rsp
    .cfi_adjust_cfa_offset 8
    call *exported@GOTPCREL(%rip)
    addq $8, %rsp
    .cfi_adjust_cfa_offset -8
    ret
.Lbad:
    movl $-9, %eax
    ret
    .cfi_endproc
    .size got_relaxed, . - got_relaxed

    .type tail_got, @function
tail_got:
    .cfi_startproc
    jmp *exported@GOTPCREL(%rip)
    .cfi_endproc
    .size tail_got, . - tail_got

    .globl exported
    .type exported, @function
exported:
    .cfi_startproc
    leal 40(%rdi), %eax
    ret
    .cfi_endproc
    .size exported, . - exported

    .globl main
    .type main, @function
main:
    .cfi_startproc
    pushq %rbx
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset %rbx, 0
    movl $0, %ebx
.Lmain_tail_register:
    movl %ebx, %edi
    call tail_register
    movl %eax, %edi
    call show
    incl %ebx
    cmpl $2, %ebx
    jne .Lmain_tail_register
    movl $0, %ebx
.Lmain_tail_memory:
    movl %ebx, %edi
    call tail_memory
    movl %eax, %edi
    call show
    incl %ebx
    cmpl $2, %ebx
    jne .Lmain_tail_memory
    movl $0, %ebx
.Lmain_tail_rip:
    movl %ebx, %edi
    call tail_rip
    movl %eax, %edi
    call show
    incl %ebx
    cmpl $2, %ebx
    jne .Lmain_tail_rip
    movl $0, %ebx
.Lmain_tail_notrack:
    movl %ebx, %edi
    call tail_notrack
    movl %eax, %edi
    call show
    incl %ebx
    cmpl $2, %ebx
    jne .Lmain_tail_notrack
    movl $0, %ebx
.Lmain_tail_push:
    movl %ebx, %edi
    call tail_push
    movl %eax, %edi
    call show
    incl %ebx
    cmpl $2, %ebx
    jne .Lmain_tail_push
    movl $0, %ebx
.Lmain_call_stack:
    movl %ebx, %edi
    call call_stack
    movl %eax, %edi
    call show
    incl %ebx
    cmpl $2, %ebx
    jne .Lmain_call_stack
    movl $0, %ebx
.Lmain_call_got:
    movl %ebx, %edi
    call call_got
    movl %eax, %edi
    call show
    incl %ebx
    cmpl $2, %ebx
    jne .Lmain_call_got
    movl $0, %ebx
.Lmain_got_relaxed:
    movl %ebx, %edi
    call got_relaxed
    movl %eax, %edi
    call show
    incl %ebx
    cmpl $2, %ebx
    jne .Lmain_got_relaxed
    movl $0, %ebx
.Lmain_tail_got:
    movl %ebx, %edi
    call tail_got
    movl %eax, %edi
    call show
    incl %ebx
    cmpl $2, %ebx
    jne .Lmain_tail_got
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
    .section .data.rel.local,"aw",@progbits
    .balign 8
vector:
    .quad f0, f1
    .section .note.GNU-stack,"",@progbits
