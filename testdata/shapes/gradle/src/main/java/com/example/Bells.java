package com.example;

/** Rings the bells. */
public final class Bells {
    public static void main(String[] words) {
        System.out.println("ding " + "dong ".repeat(2).trim());
    }
}
