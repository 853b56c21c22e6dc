#!/bin/bash
#$ -S /bin/bash
#$ -cwd
#$ -notify
#$ -r y
@directives

umask @umask
@{chain}exec @command
