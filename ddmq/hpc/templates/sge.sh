#!/bin/bash
@directives
#$ -S /bin/bash
#$ -cwd
#$ -notify

umask @umask
@chain
exec @command
