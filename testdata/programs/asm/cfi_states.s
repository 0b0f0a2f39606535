# Hand-written unwind rules: remember and restore, rules that differ per block, registers saved late, no frame at all. Every block unwinds.
# `stale_args`: a size of arguments that only calls look at, so that it differs between the two ways out of a branch.
#@ exec: -lgcc_s
#@ pie: -lgcc_s
#@ so: -lgcc_s
    .text
    .type depth_here, @function
depth_here:
    .cfi_startproc
    pushq %rbx
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset %rbx, 0
    subq $16, %rsp
    .cfi_adjust_cfa_offset 16
    movl $0, 8(%rsp)
    leaq count_frame(%rip), %rdi
    leaq 8(%rsp), %rsi
    call _Unwind_Backtrace@PLT
    movl 8(%rsp), %eax
    subl base_depth(%rip), %eax
    addq $16, %rsp
    .cfi_adjust_cfa_offset -16
    popq %rbx
    .cfi_adjust_cfa_offset -8
    ret
    .cfi_endproc
    .size depth_here, . - depth_here

    .type count_frame, @function
count_frame:
    .cfi_startproc
    incl (%rsi)
    xorl %eax, %eax
    ret
    .cfi_endproc
    .size count_frame, . - count_frame

    .type shapes, @function
shapes:
    .cfi_startproc
    testl %edi, %edi
    je .Lleaf
    pushq %rbp
    .cfi_def_cfa_offset 16
    .cfi_offset %rbp, -16
    movq %rsp, %rbp
    .cfi_def_cfa_register %rbp
    cmpl $1, %edi
    je .Lone
    pushq %r15
    .cfi_offset %r15, -24
    pushq %r14
    .cfi_offset %r14, -32
    movl $0x1515, %r15d
    movl %edi, %r14d
    .cfi_remember_state
    cmpl $2, %edi
    je .Lquick
    subq $64, %rsp
    andq $-32, %rsp
    call depth_here
    addl %r14d, %eax
    leaq -16(%rbp), %rsp
    popq %r14
    .cfi_restore %r14
    popq %r15
    .cfi_restore %r15
    popq %rbp
    .cfi_restore %rbp
    .cfi_def_cfa %rsp, 8
    ret
.Lquick:
    .cfi_restore_state
    call depth_here
    imull $100, %eax
    popq %r14
    .cfi_restore %r14
    popq %r15
    .cfi_restore %r15
    leave
    .cfi_restore %rbp
    .cfi_def_cfa %rsp, 8
    ret
.Lone:
    .cfi_def_cfa %rbp, 16
    .cfi_offset %rbp, -16
    call depth_here
    imull $1000, %eax
    popq %rbp
    .cfi_restore %rbp
    .cfi_def_cfa %rsp, 8
    ret
.Lleaf:
    subq $8, %rsp
    .cfi_def_cfa_offset 16
    call depth_here
    addq $8, %rsp
    .cfi_def_cfa_offset 8
    ret
    .cfi_endproc
    .size shapes, . - shapes

    .type cfa_expression, @function
cfa_expression:
    .cfi_startproc
    leaq 8(%rsp), %r10
    .cfi_def_cfa %r10, 0
    andq $-64, %rsp
    pushq -8(%r10)
    pushq %rbp
    movq %rsp, %rbp
    .cfi_escape 0x10,0x6,0x2,0x76,0x0
    pushq %r10
    .cfi_escape 0xf,0x3,0x76,0x78,0x6
    subq $40, %rsp
    testl $1, %edi
    je .Lno_call
    call depth_here
    jmp .Ldone
.Lno_call:
    call depth_here
    addl $50, %eax
.Ldone:
    addq $40, %rsp
    popq %r10
    .cfi_def_cfa %r10, 0
    popq %rbp
    leaq -8(%r10), %rsp
    .cfi_def_cfa %rsp, 8
    ret
    .cfi_endproc
    .size cfa_expression, . - cfa_expression

    .macro stale_step bit, next
    testl $\bit, %ebx
    je \next
    .cfi_escape 0x2e,0x0
    call depth_here
    imull $\bit, %eax
    addl %eax, %r12d
    .cfi_escape 0x2e,0x10
\next:
    .endm

    .type stale_args, @function
stale_args:
    .cfi_startproc
    pushq %rbx
    .cfi_def_cfa_offset 16
    .cfi_offset %rbx, -16
    pushq %r12
    .cfi_def_cfa_offset 24
    .cfi_offset %r12, -24
    subq $8, %rsp
    .cfi_def_cfa_offset 32
    movl %edi, %ebx
    xorl %r12d, %r12d
    .cfi_escape 0x2e,0x10
    stale_step 1, .Lstale_1
    stale_step 2, .Lstale_2
    stale_step 4, .Lstale_3
    stale_step 8, .Lstale_4
    stale_step 16, .Lstale_5
    stale_step 32, .Lstale_6
    stale_step 64, .Lstale_7
    stale_step 128, .Lstale_8
    movl %r12d, %eax
    addq $8, %rsp
    .cfi_def_cfa_offset 24
    popq %r12
    .cfi_def_cfa_offset 16
    popq %rbx
    .cfi_def_cfa_offset 8
    ret
    .cfi_endproc
    .size stale_args, . - stale_args

    .globl main
    .type main, @function
main:
    .cfi_startproc
    pushq %rbx
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset %rbx, 0
    call depth_here
    movl %eax, base_depth(%rip)
    movl $0, %ebx
.Lmain_shapes:
    movl %ebx, %edi
    call shapes
    movl %eax, %edi
    call show
    incl %ebx
    cmpl $5, %ebx
    jne .Lmain_shapes
    movl $0, %ebx
.Lmain_cfa_expression:
    movl %ebx, %edi
    call cfa_expression
    movl %eax, %edi
    call show
    incl %ebx
    cmpl $2, %ebx
    jne .Lmain_cfa_expression
    movl $77, %ebx
.Lmain_stale_args:
    movl %ebx, %edi
    call stale_args
    movl %eax, %edi
    call show
    incl %ebx
    cmpl $80, %ebx
    jne .Lmain_stale_args
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
base_depth:
    .long 0
    .section .note.GNU-stack,"",@progbits
