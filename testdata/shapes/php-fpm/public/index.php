<?php
require dirname(__DIR__) . '/loader.php';
header('Content-Type: text/plain');
echo (new Weather(getenv('CITY')))->today(), "\n";
