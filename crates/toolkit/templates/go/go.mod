module example.com/PACKAGE_NAME

go 1.24

require wasq/task v0.0.0

// `wasq build` writes the SDK into this folder.
replace wasq/task => ./build/sdk/go
