<?php
final class Weather
{
    public function __construct(private string $city)
    {
    }

    public function today(): string
    {
        return "It rains in {$this->city}.";
    }
}
