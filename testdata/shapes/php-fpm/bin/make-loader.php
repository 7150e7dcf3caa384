<?php
// Writes a file that includes every class below a directory.
echo "<?php\n";
foreach (glob($argv[1] . '/*.php') as $file) {
    echo "require __DIR__ . '/$file';\n";
}
