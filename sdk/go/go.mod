module wasq/task

go 1.24
