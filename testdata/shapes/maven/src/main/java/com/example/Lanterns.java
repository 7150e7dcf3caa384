package com.example;

import java.util.stream.IntStream;

/** Lights as many lanterns as it is told. */
public final class Lanterns {
    public static void main(String[] words) {
        IntStream.rangeClosed(1, Integer.parseInt(words[0]))
                .mapToObj(number -> "Lantern " + number + " is lit.")
                .forEach(System.out::println);
    }
}
