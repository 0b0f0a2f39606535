# Absolute code: 32-bit addresses in immediates, tables indexed without a base register.
#@ build: kinds=exec,static linkers=ld,lld,gold
    .text
    .type choose, @function
choose:
    .cfi_startproc
    cmpl $3, %edi
    ja .Lout
    movl %edi, %edi
    jmp *table(,%rdi,8)
.La:
    movl $11, %eax
    ret
.Lb:
    movl $22, %eax
    ret
.Lc:
    movl $33, %eax
    ret
.Lout:
    movl $-1, %eax
    ret
    .cfi_endproc
    .size choose, . - choose

    .type by_address, @function
by_address:
    .cfi_startproc
    movl $.La, %eax
    movq $.Lb, %rcx
    cmpl $1, %edi
    cmoveq %rcx, %rax
    movabsq $.Lc, %rdx
    cmpl $2, %edi
    cmoveq %rdx, %rax
    jmp *%rax
    .cfi_endproc
    .size by_address, . - by_address

    .type compared, @function
compared:
    .cfi_startproc
    movl $choose, %eax
    cmpq $choose, %rax
    sete %al
    movzbl %al, %eax
    cmpq $by_address, function_pointer
    jne .Lno
    addl $10, %eax
.Lno:
    addl %edi, %eax
    ret
    .cfi_endproc
    .size compared, . - compared

    .type pushed, @function
pushed:
    .cfi_startproc
    pushq $.Lpushed
    .cfi_adjust_cfa_offset 8
    movl %edi, %eax
    ret
    .cfi_adjust_cfa_offset -8
.Lpushed:
    incl %eax
    ret
    .cfi_endproc
    .size pushed, . - pushed

    .globl main
    .type main, @function
main:
    .cfi_startproc
    pushq %rbx
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset %rbx, 0
    movl $0, %ebx
.Lmain_choose:
    movl %ebx, %edi
    call choose
    movl %eax, %edi
    call show
    incl %ebx
    cmpl $5, %ebx
    jne .Lmain_choose
    movl $0, %ebx
.Lmain_by_address:
    movl %ebx, %edi
    call by_address
    movl %eax, %edi
    call show
    incl %ebx
    cmpl $3, %ebx
    jne .Lmain_by_address
    movl $0, %ebx
.Lmain_compared:
    movl %ebx, %edi
    call compared
    movl %eax, %edi
    call show
    incl %ebx
    cmpl $2, %ebx
    jne .Lmain_compared
    movl $0, %ebx
.Lmain_pushed:
    movl %ebx, %edi
    call pushed
    movl %eax, %edi
    call show
    incl %ebx
    cmpl $2, %ebx
    jne .Lmain_pushed
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
    .section .rodata,"a",@progbits
    .balign 8
table:
    .quad .La, .Lb, .La, .Lc
    .data
    .balign 8
function_pointer:
    .quad by_address
    .section .note.GNU-stack,"",@progbits
